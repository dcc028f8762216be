//! What a component may try while it is loaded.

use std::path::Path;
use std::sync::Arc;

use sandbar::guest::Engine;
use sandbar::plugin::{Loader, Plugin, PluginSpec};
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::guests::guest;
use sandbar_tests::raw::{Raw, leb};

use super::neighbourhood::spec;

async fn load(spec: PluginSpec) -> Result<Arc<Plugin>, String> {
    let engine = Engine::new().map_err(|error| error.to_string())?;
    let loaded = Loader::new(engine).load(spec).await;
    loaded.map_err(|error| error.to_string())
}

/// It is refused, with words that say why.
async fn refused(bytes: &[u8], error: &str) -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw.wasm");
    std::fs::write(&file, bytes)?;
    let found = load(spec(&file)).await.err().ok_or("it was loaded")?;
    assert!(found.contains(error), "{found}");
    let named = format!("plugin file {}: ", file.display());
    assert!(found.starts_with(&named), "{found}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loop_in_routes() -> Outcome {
    let raw = Raw {
        routes: "(loop $for_ever (br $for_ever)) (unreachable)".to_owned(),
        ..Raw::default()
    };
    refused(&raw.component(), "longer than 1.5s").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loop_at_the_start() -> Outcome {
    let raw = Raw {
        more: "(func $start (loop $for_ever (br $for_ever))) (start $start)".to_owned(),
        ..Raw::default()
    };
    refused(&raw.component(), "longer than 1.5s").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_sleep_in_routes() -> Outcome {
    let raw = Raw {
        routes: "(call $sleep) (i32.const 64)".to_owned(),
        ..Raw::sleeper()
    };
    refused(&raw.component(), "longer than 1.5s").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_sleep_at_the_start() -> Outcome {
    let mut raw = Raw::sleeper();
    raw.more.push_str("(start $sleep)");
    refused(&raw.component(), "longer than 1.5s").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_at_the_start() -> Outcome {
    let raw = Raw {
        more: "(func $start (unreachable)) (start $start)".to_owned(),
        ..Raw::default()
    };
    refused(&raw.component(), "it cannot be started: wasm trap").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_at_the_start() -> Outcome {
    let raw = Raw {
        pages: 1000,
        ..Raw::default()
    };
    refused(&raw.component(), "bytes of memory").await
}

/// What is not handled yet has no effects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_while_it_is_loaded() -> Outcome {
    let raw = Raw {
        imports: r#"(import "sandbar:messaging/state@0.1.0" "delete"
            (func $delete (param i32 i32 i32)))"#
            .to_owned(),
        // Says by a trap that it was not refused.
        routes: "(call $delete (i32.const 16) (i32.const 6) (i32.const 512))
            (if (i32.eqz (i32.load8_u (i32.const 512))) (then (unreachable)))
            (i32.const 64)"
            .to_owned(),
        ..Raw::default()
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw.wasm");
    std::fs::write(&file, raw.component())?;
    load(spec(&file)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_out_of_bounds() -> Outcome {
    for (what, data) in [
        (
            "a list beyond the memory",
            r#"(data (i32.const 64) "\f0\ff\ff\ff\01\00\00\00")"#,
        ),
        (
            "a list of 2^32 routes",
            r#"(data (i32.const 64) "\80\00\00\00\ff\ff\ff\ff")"#,
        ),
        (
            "a topic of 4 GiB",
            r#"(data (i32.const 128) "\10\00\00\00\ff\ff\ff\ff")"#,
        ),
    ] {
        let raw = Raw {
            more: data.to_owned(),
            ..Raw::default()
        };
        let ended = refused(&raw.component(), "it did not declare its routes").await;
        ended.map_err(|error| format!("{what}: {error}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_routes() -> Outcome {
    // All of them are the same 32 zero bytes: as many as the memory has room for.
    let raw = Raw {
        more: r#"(data (i32.const 64) "\00\10\00\00\00\00\01\00")"#.to_owned(),
        pages: 40,
        ..Raw::default()
    };
    refused(&raw.component(), "at most 1000 are allowed").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_of_a_mebibyte() -> Outcome {
    let raw = Raw {
        more: r#"(data (i32.const 128) "\00\00\01\00\00\00\10\00")
            (func $start (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1048576)))
            (start $start)"#
            .to_owned(),
        ..Raw::default()
    };
    refused(&raw.component(), "route 1 is malformed").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_routes_on_one_command() -> Outcome {
    let raw = Raw {
        more: r#"(data (i32.const 64) "\80\00\00\00\02\00\00\00")
            (data (i32.const 160) "\10\00\00\00\06\00\00\00")"#
            .to_owned(),
        ..Raw::default()
    };
    refused(&raw.component(), "raw.go").await
}

/// What it may handle is the operator's to say, however much it claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_that_claim_everything() -> Outcome {
    let raw = Raw {
        more: r#"(data (i32.const 16) ">") (data (i32.const 128) "\10\00\00\00\01\00\00\00")"#
            .to_owned(),
        ..Raw::default()
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw.wasm");
    std::fs::write(&file, raw.component())?;
    let mut spec = spec(&file);
    let loaded = load(spec.clone()).await?;
    assert_eq!(loaded.routes[0].topic.to_string(), ">", "it is shown");
    spec.grants.subscribe = Some(vec!["raw.*".parse()?]);
    let error = load(spec).await.err().ok_or("it was loaded")?;
    assert!(
        error.contains("none of its routes is in `subscribe`"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_that_does_not_exist() -> Outcome {
    let component = wat::parse_str(
        r#"(component (import "evil:host/files@1.0.0" (instance (export "read" (func)))))"#,
    )?;
    refused(&component, "exports nothing").await?;
    let sockets = wat::parse_str(
        r#"(component
            (import "wasi:sockets/tcp@0.2.0" (instance $sockets (export "connect" (func))))
            (instance $handler)
            (export "sandbar:messaging/handler@0.1.0" (instance $handler)))"#,
    )?;
    refused(&sockets, "handlers have no sockets").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handler_of_another_shape() -> Outcome {
    let component = wat::parse_str(
        r#"(component
            (instance $handler)
            (export "sandbar:messaging/handler@0.1.0" (instance $handler)))"#,
    )?;
    refused(&component, "its handler does not fit").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn world_of_others() -> Outcome {
    let component = wat::parse_str(
        r#"(component
            (instance $run)
            (export "wasi:cli/run@0.2.0" (instance $run)))"#,
    )?;
    refused(&component, "unknown world").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_module() -> Outcome {
    refused(&wat::parse_str("(module)")?, "it is a core module").await
}

/// Loaded or refused, in a time that ends: ten thousand functions are legal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_functions() -> Outcome {
    let functions: String = (0..10_000)
        .map(|number| format!("(func (result i32) (i32.const {number}))"))
        .collect();
    let raw = Raw {
        more: functions,
        ..Raw::default()
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw.wasm");
    std::fs::write(&file, raw.component())?;
    load(spec(&file)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_data() -> Outcome {
    // 20 MiB of data in a memory that may have 8 MiB.
    let data = "x".repeat(1 << 20);
    let segments: String = (0..20_u32)
        .map(|number| format!("(data (i32.const {}) \"{data}\")", (1 + number) << 20))
        .collect();
    let raw = Raw {
        pages: 400,
        more: segments,
        ..Raw::default()
    };
    refused(&raw.component(), "bytes of memory").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_core_instances() -> Outcome {
    let instances = "(core instance (instantiate $m))".repeat(2000);
    let component = wat::parse_str(format!(
        r#"(component (core module $m) {instances}
            (instance $handler)
            (export "sandbar:messaging/handler@0.1.0" (instance $handler)))"#
    ))?;
    refused(&component, "").await
}

/// Types within types, as deep as a file can say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_of_great_depth() -> Outcome {
    let mut types = String::from("(type $t0 (list u8))");
    for depth in 1..20_000 {
        types.push_str(&format!("(type $t{depth} (list $t{}))", depth - 1));
    }
    let flat = wat::parse_str(format!(
        "(component {types} (import \"f\" (func (param \"a\" $t19999))))"
    ))?;
    refused(&flat, "").await?;
    // Components within components.
    let mut nested = vec![0_u8; 0];
    let inner = wat::parse_str("(component)")?;
    nested.extend(&inner);
    for _ in 0..2_000 {
        let mut outer = inner.clone();
        outer.push(4);
        leb(nested.len(), &mut outer);
        outer.extend(&nested);
        nested = outer;
    }
    refused(&nested, "").await
}

/// The neighbour of this test is every other one; the component is one that behaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_behaves_is_loaded() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw.wasm");
    std::fs::write(&file, Raw::default().component())?;
    assert_eq!(load(spec(&file)).await?.routes.len(), 1);
    load(spec(Path::new(&guest("echo")))).await?;
    Ok(())
}
