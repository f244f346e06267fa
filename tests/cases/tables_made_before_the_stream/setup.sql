SET SESSION sql_mode = '', explicit_defaults_for_timestamp = 0, sql_generate_invisible_primary_key = 1;
CREATE TABLE t (a INT, ts TIMESTAMP, d DATE NOT NULL DEFAULT '0000-00-00');
CREATE TABLE parent (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(10) CHARACTER SET latin1 DEFAULT 'ü') AUTO_INCREMENT = 500 COMMENT = 'it''s';
CREATE TABLE child (id INT PRIMARY KEY, p INT, g INT AS (id + 1) STORED, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE);
