SET NAMES latin1;
CREATE TABLE t (id INT PRIMARY KEY, `größe` VARCHAR(20) DEFAULT 'Äpfel', e ENUM('für','über') DEFAULT 'über' COMMENT 'für Ümläute') COMMENT = 'çà et là';
INSERT INTO t (id) VALUES (1);
INSERT INTO t VALUES (2, 'été', 'für');
ALTER TABLE t ADD `prix €` VARCHAR(10) CHARACTER SET utf8mb4 DEFAULT '€', RENAME COLUMN e TO `é`;
UPDATE t SET `prix €` = 'ÿ' WHERE `größe` = 'été';
CREATE TABLE `où` (id INT PRIMARY KEY);
INSERT INTO `où` VALUES (1);
