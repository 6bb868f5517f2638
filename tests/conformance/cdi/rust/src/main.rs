//! cdiread reads CDI directories with the crate that Kata's Rust shim and agent use, and prints one JSON object:
//!
//!     {"errors": {"scan": ["…"]}, "devices": {"vendor/class=name": ["/dev/…"]}}
//!
//! The crate stops at the first file it cannot read, as Kata then does.
use std::process::exit;

use container_device_interface::cache::new_cache;
use container_device_interface::spec_dirs::with_spec_dirs;
use serde_json::{json, Map, Value};

fn main() {
    let dirs: Vec<String> = std::env::args().skip(1).collect();
    if dirs.is_empty() {
        eprintln!("usage: cdiread DIR…");
        exit(2);
    }
    let names: Vec<&str> = dirs.iter().map(String::as_str).collect();
    let cache = new_cache(vec![with_spec_dirs(&names)]);
    let mut cache = cache.lock().expect("one thread");
    let mut errors = Map::new();
    if let Err(error) = cache.refresh() {
        errors.insert("scan".into(), json!([error.to_string()]));
    }
    let mut devices = Map::new();
    for name in cache.list_devices() {
        let device = cache.get_device(&name).expect("listed");
        let nodes: Vec<Value> = device
            .edits()
            .container_edits
            .device_nodes
            .unwrap_or_default()
            .iter()
            .map(|node| json!(node)["path"].clone()) // its members are private, its serialised form is not
            .collect();
        devices.insert(name, Value::Array(nodes));
    }
    println!("{}", json!({ "errors": errors, "devices": devices }));
}
