//! The hooks of a bootstrap extension of the same library: it adds this library's paths to Envoy's admin
//! interface, and does nothing else. Envoy calls all of them on the main thread but where it is said.

use core::ffi::c_void;

use super::bindings::types::envoy_dynamic_module_type_envoy_buffer as EnvoyBuffer;
use super::buffer::{borrow, lend};
use super::objects::guard;
use super::table::table;
use crate::runner::admin;

/// What Envoy keeps for an extension that has nothing of its own: not null, and never followed.
static NOTHING: u8 = 0;

fn nothing() -> *const c_void {
    (&raw const NOTHING).cast()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    config: *mut c_void,
    _name: EnvoyBuffer,
    bytes: EnvoyBuffer,
) -> *const c_void {
    guard(core::ptr::null(), || {
        // SAFETY: Envoy's buffers are readable and unchanged until the hook returns (F14).
        let bytes = unsafe { borrow(bytes) };
        if !matches!(bytes.trim_ascii(), b"" | b"{}") {
            tracing::error!("the extension for the admin interface takes no configuration");
            return core::ptr::null();
        }
        let Some(table) = table() else { return core::ptr::null() };
        for path in admin::paths(super::filters()) {
            // SAFETY: `config` is live while its hook runs; Envoy copies the texts.
            let added = unsafe {
                table
                    .required
                    .envoy_dynamic_module_callback_bootstrap_extension_register_admin_handler(
                        config,
                        lend(path.path.as_bytes()),
                        lend(path.help.as_bytes()),
                        true,
                        path.changes,
                    )
            };
            if !added {
                // Without an admin interface there is nothing to add to.
                tracing::warn!(path = path.path, "Envoy adds no such path to its admin interface");
            }
        }
        // SAFETY: as above.
        unsafe {
            table
                .required
                .envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(
                    config,
                );
        }
        nothing()
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_admin_request(
    config: *mut c_void,
    _extension_config: *const c_void,
    method: EnvoyBuffer,
    path: EnvoyBuffer,
    _body: EnvoyBuffer,
) -> u32 {
    guard(500, || {
        // SAFETY: Envoy's buffers are readable and unchanged until the hook returns (F14).
        let method = String::from_utf8_lossy(unsafe { borrow(method) });
        // SAFETY: as above.
        let path = String::from_utf8_lossy(unsafe { borrow(path) });
        let (status, body) = admin::answer(&method, &path);
        if let Some(table) = table() {
            // SAFETY: `config` is live while its hook runs; Envoy copies the text.
            unsafe {
                table
                    .required
                    .envoy_dynamic_module_callback_bootstrap_extension_admin_set_response(
                        config,
                        lend(body.as_bytes()),
                    );
            }
        }
        status
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
    _config: *const c_void,
    _extension: *mut c_void,
) -> *const c_void {
    nothing()
}

/// Envoy waits for `done` before it goes on with its end.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _envoy: *mut c_void,
    _extension: *const c_void,
    done: Option<unsafe extern "C" fn(*mut c_void)>,
    context: *mut c_void,
) {
    if let Some(done) = done {
        // SAFETY: Envoy's own function with its own context, called once, as it asks for.
        unsafe { done(context) };
    }
}

/// Hooks that have nothing to do. What they are given is not looked at.
macro_rules! idle {
    ($($name:ident($($argument:ty),*);)+) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name($(_: $argument),*) {})+
    };
}

idle! {
    envoy_dynamic_module_on_bootstrap_extension_config_destroy(*const c_void);
    envoy_dynamic_module_on_bootstrap_extension_destroy(*const c_void);
    envoy_dynamic_module_on_bootstrap_extension_server_initialized(*mut c_void, *const c_void);
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized(*mut c_void, *const c_void);
    envoy_dynamic_module_on_bootstrap_extension_drain_started(*mut c_void, *const c_void);
    envoy_dynamic_module_on_bootstrap_extension_config_scheduled(*mut c_void, *const c_void, u64);
    envoy_dynamic_module_on_bootstrap_extension_timer_fired(*mut c_void, *const c_void, *mut c_void);
    envoy_dynamic_module_on_bootstrap_extension_file_changed(*mut c_void, *const c_void, EnvoyBuffer, u32);
    envoy_dynamic_module_on_bootstrap_extension_http_callout_done(*mut c_void, *const c_void, u64, u32, *mut c_void, usize, *mut c_void, usize);
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update(*mut c_void, *const c_void, EnvoyBuffer);
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal(*mut c_void, *const c_void, EnvoyBuffer);
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update(*mut c_void, *const c_void, EnvoyBuffer);
    envoy_dynamic_module_on_bootstrap_extension_listener_removal(*mut c_void, *const c_void, EnvoyBuffer);
}
