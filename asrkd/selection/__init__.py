"""What will be labeled, before it is: levels, clipping, duplicates, and a page to look at."""
