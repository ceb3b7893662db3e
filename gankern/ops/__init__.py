"""The contract of every op: public function, docstring, argument checks, shape rule, derivative."""
