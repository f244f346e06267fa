//! One verb a file: arguments, then a call.
