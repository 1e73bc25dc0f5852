//! The contracts between the parts of Tidemark: the gRPC API of the dimension
//! service, [`Position`], and the change [`envelope`] that every topic carries.
//!
//! Both programs depend on this crate and on nothing else of each other.

pub mod codec;
pub mod config;
pub mod envelope;
mod position;
pub mod text;

pub use position::{Position, PositionError};

/// The gRPC API, generated from `tidemark/dim/v1/dim.proto`; its comments are
/// the manual.
pub mod dim {
    #[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("tidemark.dim.v1");
    }

    /// The encoded file descriptor set of the API, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
}
