CREATE TABLE t (id INT PRIMARY KEY);
INSERT INTO t VALUES (1);
DROP DATABASE c_drop_database_of_a_pattern_is_refused;
