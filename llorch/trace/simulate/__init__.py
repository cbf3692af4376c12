"""What if: measured operations, scheduled on more or fewer compute engines than they ran on."""
