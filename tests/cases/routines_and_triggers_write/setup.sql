CREATE TABLE private (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(90));
SET GLOBAL log_bin_trust_function_creators = 1;
