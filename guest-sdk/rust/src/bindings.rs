//! The generated side of `wit/v0.1`: made once, here, so that no plugin generates bindings of its own.
//!
//! It is not the SDK's interface: everything a handler sees is a type of this crate, and these types stop in
//! `backend/wasm.rs` and `export.rs`.

wit_bindgen::generate!({
    path: "../../wit/v0.1",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "::sandbar_guest::__private::bindings",
});
