"""What llama.cpp computes, written down for `llorch validate` and the golden tests."""
