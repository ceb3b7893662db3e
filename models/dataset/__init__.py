"""`gankern dataset`: data sets of other kinds, and images of other sizes, made into ones that training reads."""
