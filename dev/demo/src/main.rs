//! placeholder
mod random;
mod shop;
fn main() {}
