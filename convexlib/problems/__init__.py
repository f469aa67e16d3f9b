"""Problems: data plus a theorem each; one file a theorem, packages where it needs several."""
