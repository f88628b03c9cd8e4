//! The state that all requests share: the use cases, the settings and the limiters.

use std::sync::Arc;

use app::App;
use web::Settings;

/// The state that all requests to the API share.
pub(crate) struct ApiState {
    pub(crate) app: Arc<App>,
    pub(crate) settings: Settings,
}
