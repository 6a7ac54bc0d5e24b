"""`bert4albert serve`: a task or an export behind HTTP, requests joined into batches."""
