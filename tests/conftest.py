"""What lies in this folder (`store_samples`) can be imported by every test below it."""
