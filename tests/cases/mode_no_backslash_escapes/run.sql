SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES';
CREATE TABLE t (id INT PRIMARY KEY, p VARCHAR(40) DEFAULT 'C:\temp\', q ENUM('a\','b\n') COMMENT 'ends in \', r VARCHAR(10) DEFAULT '\');
INSERT INTO t (id) VALUES (1);
INSERT INTO t VALUES (2, '\', 'a\', 'x'), (3, '\'' quote', 'b\n', NULL);
ALTER TABLE t MODIFY p VARCHAR(50) DEFAULT 'D:\' COMMENT '\';
INSERT INTO t (id) VALUES (4);
SET SESSION sql_mode = 'STRICT_ALL_TABLES';
ALTER TABLE t ADD s VARCHAR(20) DEFAULT 'a\\b\'c' COMMENT 'tab\there, quote\'; and -- dashes';
INSERT INTO t (id) VALUES (5);
