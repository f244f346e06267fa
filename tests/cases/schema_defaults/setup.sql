CREATE DATABASE c_schema_defaults CHARACTER SET latin1 COLLATE latin1_german2_ci;
USE c_schema_defaults;
