//! Components that no compiler would write: a core module in text, wrapped for the world of plugins.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The topic of its one command.
pub const TOPIC: &str = "raw.go";

/// Parts of a core module, each in the text format; a part that is not replaced behaves.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Imports, which come first.
    pub imports: String,
    /// Pages of the memory, at first.
    pub pages: u32,
    /// The body of `cabi_realloc(old: i32, old_size: i32, align: i32, new_size: i32) -> i32`.
    pub realloc: String,
    /// The body of `routes() -> i32`.
    pub routes: String,
    /// The body of `handle`, which has 16 parameters of type i32 and returns one.
    pub handle: String,
    /// Anything else: functions, data, a start function.
    pub more: String,
    /// A package with the world `more`, for imports that the world of plugins does not have.
    pub wit: String,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            imports: String::new(),
            pages: 32,
            // What is given out is never taken back: an instance lives for few messages.
            realloc: "(local $at i32)
                (local.set $at (i32.and
                    (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
                    (i32.sub (i32.const 0) (local.get 2))))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at)"
                .to_owned(),
            routes: "(i32.const 64)".to_owned(),
            // Zeros: an empty success.
            handle: "(i32.const 1024)".to_owned(),
            more: String::new(),
            wit: String::new(),
        }
    }
}

/// Clocks of WASI, which can be waited for.
const SLEEP: &str = "
    package test:more;
    world more {
        include sandbar:messaging/plugin@0.1.0;
        import wasi:io/poll@0.2.6;
        import wasi:clocks/monotonic-clock@0.2.6;
    }
    package wasi:io@0.2.6 {
        interface poll {
            resource pollable {
                block: func();
            }
        }
    }
    package wasi:clocks@0.2.6 {
        interface monotonic-clock {
            use wasi:io/poll@0.2.6.{pollable};
            subscribe-duration: func(when: u64) -> pollable;
        }
    }";

impl Raw {
    /// One that can sleep for ten hours, with `(call $sleep)`.
    #[must_use]
    pub fn sleeper() -> Self {
        Self {
            imports: r#"
                (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration"
                    (func $wait (param i64) (result i32)))
                (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#
                .to_owned(),
            more: "(func $sleep (call $block (call $wait (i64.const 36000000000000))))".to_owned(),
            wit: SLEEP.to_owned(),
            ..Self::default()
        }
    }

    /// The component.
    ///
    /// # Panics
    /// When a part is no valid text, or does not fit.
    #[must_use]
    pub fn component(&self) -> Vec<u8> {
        let Self {
            imports,
            pages,
            realloc,
            routes,
            handle,
            more,
            wit: other,
        } = self;
        let arguments = "i32 ".repeat(16);
        let module = format!(
            r#"(module
                {imports}
                (memory (export "memory") {pages})
                (global $next (mut i32) (i32.const 4096))
                (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export "sandbar:messaging/handler@0.1.0#routes") (result i32) {routes})
                (func (export "sandbar:messaging/handler@0.1.0#handle") (param {arguments}) (result i32) {handle})
                (data (i32.const 16) "{TOPIC}")
                (data (i32.const 64) "\80\00\00\00\01\00\00\00")
                (data (i32.const 128) "\10\00\00\00\06\00\00\00\00\00\00\00")
                {more})"#
        );
        let mut module = wat::parse_str(&module).expect("the text of a module");
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/v0.1");
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(&wit).expect("the contract");
        let (package, world) = match other.is_empty() {
            true => (package, "plugin"),
            false => (
                resolve.push_str("more.wit", other).expect("a package"),
                "more",
            ),
        };
        let world = resolve
            .select_world(&[package], Some(world))
            .expect("the world of the component");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the world as metadata");
        ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .and_then(|mut encoder| encoder.encode())
            .expect("a module that fits the world")
    }
}

/// Appends a number as WebAssembly writes it: seven bits in each byte, the lowest first.
pub fn leb(mut number: usize, to: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0x7f);
        number >>= 7;
        match number {
            0 => return to.push(low),
            _ => to.push(low | 0x80),
        }
    }
}
