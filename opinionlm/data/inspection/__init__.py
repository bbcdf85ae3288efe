"""What a file of one's own holds, and the YAML files made of it: the command `opinionlm init`."""
