SET SESSION default_collation_for_utf8mb4 = utf8mb4_general_ci;
CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(10) CHARACTER SET utf8mb4, b VARCHAR(10) CHARACTER SET latin1) CHARSET = utf8mb4;
INSERT INTO t VALUES (1, 'é', 'é');
SET SESSION default_collation_for_utf8mb4 = utf8mb4_0900_ai_ci;
CREATE TABLE u (id INT PRIMARY KEY, a VARCHAR(10) CHARACTER SET utf8mb4) CHARSET = utf8mb4;
INSERT INTO u VALUES (1, 'ß');
ALTER TABLE t ADD c VARCHAR(10) CHARACTER SET utf8mb4;
SET SESSION default_collation_for_utf8mb4 = utf8mb4_general_ci;
ALTER TABLE u CONVERT TO CHARACTER SET utf8mb4;
