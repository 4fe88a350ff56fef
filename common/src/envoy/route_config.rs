//! The per-route configuration of some filter, as Envoy keeps it.

use std::any::Any;
use std::sync::Arc;

/// The per-route configuration of some filter; cheap to clone.
#[derive(Clone)]
pub struct RouteConfig(Arc<dyn Any + Send + Sync>);

impl std::fmt::Debug for RouteConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteConfig").finish_non_exhaustive()
    }
}

impl RouteConfig {
    /// Wraps a filter's per-route configuration.
    pub fn new<R: Send + Sync + 'static>(route: R) -> Self {
        Self(Arc::new(route))
    }

    /// One that no filter takes for its own.
    pub(crate) fn foreign() -> Self {
        struct Foreign;
        Self(Arc::new(Foreign))
    }

    pub(crate) fn downcast<R: Send + Sync + 'static>(self) -> Option<Arc<R>> {
        self.0.downcast().ok()
    }
}
