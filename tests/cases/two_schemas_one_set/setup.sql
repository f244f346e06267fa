CREATE DATABASE c_two_schemas_one_set_2 CHARACTER SET latin1 COLLATE latin1_bin;
