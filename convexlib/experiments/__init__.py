"""The experiments behind the book's tables: settings in, one JSON record out for each of them."""
