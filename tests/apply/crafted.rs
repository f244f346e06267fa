//! Segments that upload would never write.
