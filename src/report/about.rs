//! What a page says about its making.

/// Version of this program and the commit that it was built from, as in `0.1.0 (3395a41c01f2)`.
pub const VERSION: &str = env!("BEIT_VERSION");
