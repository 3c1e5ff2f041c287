"""What training reads: sound files cropped, and token stores cut into batches."""
