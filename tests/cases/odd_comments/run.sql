/* leading */ CREATE /*!80000 TABLE */ /*!99999 IF THIS RAN IT WOULD FAIL */ t ( -- a dash comment; with a semicolon and a 'quote
  id INT PRIMARY KEY, # hash comment `with backtick
  a VARCHAR(20) DEFAULT '/* not a comment */' /* DROP TABLE other */ COMMENT '-- nor this',
  b /*!50000 INT */ DEFAULT 3
) /*!50100 COMMENT = 'versioned' */ -- trailing; more
;
INSERT /*+ NO_INDEX_MERGE(t) */ INTO t (id) VALUES (1);
ALTER /* RENAME TABLE x TO y; */ TABLE /**/t/**/ADD/**/c INT/* */;
/*! ALTER TABLE t ADD d INT DEFAULT 4 */;
ALTER TABLE t ADD e INT --
;
CREATE TABLE/*x*/`t2`/*y*/(/*z*/id INT);
DROP/*!*/TABLE/*!32312 IF EXISTS */t2;
/*!80000 CREATE TABLE u (id INT PRIMARY KEY) */;
INSERT INTO u VALUES (1);
/*!80000 RENAME TABLE */ u TO t2;
INSERT INTO t (id, c, d, e) VALUES (2, 2, 2, 2);
