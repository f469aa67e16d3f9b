"""Problems: data plus a theorem each; one file a theorem."""
