#: The version of the package and of the library in it.
version = "0.1.0"
