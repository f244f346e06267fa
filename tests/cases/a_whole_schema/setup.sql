CREATE DATABASE c_a_whole_schema_2;
