CREATE DATABASE c_statement_format_elsewhere_2;
CREATE TABLE c_statement_format_elsewhere_2.private (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40));
