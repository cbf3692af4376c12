"""What this computer has and what it grants this process: CPU, threads, memory."""
