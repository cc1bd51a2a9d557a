"""When, of what and which quantities are recorded, and the rows that they become."""
