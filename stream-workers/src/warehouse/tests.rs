//! The promises of the folder: the example compiles to the plans it means, and
//! every kind of wrong SQL is refused at its place.

mod example;
mod wrong;
