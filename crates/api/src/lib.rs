#![doc = include_str!("../README.md")]

/// `maintpb`: the mutations themselves, wire-compatible with Go's maintner.
pub mod maintpb {
    include!("gen/maintpb.rs");
}

/// `apipb`: what Go's programs ask of maintnerd, wire-compatible with the original.
pub mod apipb {
    include!("gen/apipb.rs");
}

mod farmer {
    pub mod buildlet {
        pub mod v1 {
            include!("gen/farmer.buildlet.v1.rs");
        }
    }
    pub mod coordinator {
        pub mod v1 {
            include!("gen/farmer.coordinator.v1.rs");
        }
    }
    pub mod events {
        pub mod v1 {
            include!("gen/farmer.events.v1.rs");
        }
    }
    pub mod gitmirror {
        pub mod v1 {
            include!("gen/farmer.gitmirror.v1.rs");
        }
    }
    pub mod maintner {
        pub mod v1 {
            include!("gen/farmer.maintner.v1.rs");
        }
    }
}

pub use farmer::{
    buildlet::v1 as buildlet, coordinator::v1 as coordinator, events::v1 as events,
    gitmirror::v1 as gitmirror, maintner::v1 as maintner,
};

/// The descriptors of all of `proto/`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
