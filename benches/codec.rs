//! Codecs.
fn main() {}
