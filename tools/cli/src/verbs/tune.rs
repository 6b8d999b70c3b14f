//! `rinfer tune`: which kernels are fastest on a GPU, kept for runs with `--tuned`.
//!
//! The file is one JSON object in the user's cache folder: for each adapter, driver and version of
//! rinfer a line such as `few=row many=tile`. A file that is damaged counts as empty.

use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use crate::args::{PrintArgs, TuneArgs};
use crate::failure::{Code, Failure, Result};

/// Where tunings are kept: `rinfer/tuning.json` in the user's cache folder.
fn file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || set("HOME");
    let base = set("XDG_CACHE_HOME").or_else(|| match std::env::consts::OS {
        "windows" => set("LOCALAPPDATA"),
        "macos" => Some(home()?.join("Library/Caches")),
        _ => Some(home()?.join(".cache")),
    });
    Some(base?.join("rinfer").join("tuning.json"))
}

/// All that is kept; nothing if there is no file, or it is damaged.
fn kept() -> Map<String, Json> {
    let text = file().and_then(|file| std::fs::read_to_string(file).ok());
    match text.and_then(|text| serde_json::from_str(&text).ok()) {
        Some(Json::Object(map)) => map,
        _ => Map::new(),
    }
}

/// What a tuning holds for: another driver may compile kernels to something else.
#[cfg(feature = "wgpu")]
fn key(which: Option<&str>) -> Result<String> {
    use crate::failure::OrFail;
    let gpu = rinfer::gpu::Gpu::open(which).or_fail(Code::Run, "tune")?;
    let info = gpu.info();
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!("{} | {} | {} | rinfer {version}", info.name, info.driver, info.backend))
}

#[cfg(not(feature = "wgpu"))]
fn key(_: Option<&str>) -> Result<String> {
    Err(Failure::new(Code::Run, "this command was built without its GPU backend"))
}

/// The tuning of an adapter, for `--tuned`.
pub fn tuning(which: Option<&str>) -> Result<String> {
    let key = key(which)?;
    let found = kept().get(&key).and_then(|text| Some(text.as_str()?.to_string()));
    found.ok_or_else(|| {
        Failure::usage(format!("--tuned: {key} was not measured; `rinfer tune` does that"))
    })
}

/// Measures and keeps the result.
#[cfg(feature = "wgpu")]
pub fn tune(args: &TuneArgs, print: &PrintArgs) -> Result<()> {
    use crate::context::say;
    use crate::failure::OrFail;
    use crate::stats::short;
    use crate::table::Table;
    let key = key(args.device.as_deref())?;
    let (tuning, trials) = rinfer::gpu::tune(args.device.as_deref()).or_fail(Code::Run, "tune")?;
    let mut table = Table::new(&["product", "kernel", "ms", ""]);
    for t in &trials {
        let [m, n, k] = t.sizes;
        let chosen = if t.class == "few" { tuning.few } else { tuning.many };
        let mark = if chosen == t.product { "chosen" } else { "" };
        table.row([format!("{m}x{k}x{n}"), t.product.to_string(), short(t.ms), mark.to_string()]);
    }
    let file = file().ok_or_else(|| Failure::new(Code::Run, "there is no cache folder"))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).or_fail(Code::Run, folder.display())?;
    }
    let mut all = kept();
    all.insert(key.clone(), tuning.to_string().into());
    let text = format!("{:#}\n", Json::Object(all));
    crate::formats::write(&file, text.as_bytes(), true)?;
    if print.json {
        println!("{}", serde_json::json!({"adapter": key, "tuning": tuning.to_string()}));
    } else {
        print!("{table}");
    }
    say(print, format!("{key}: {tuning}, kept in {}", file.display()));
    Ok(())
}

/// Says that there is no GPU backend.
#[cfg(not(feature = "wgpu"))]
pub fn tune(args: &TuneArgs, _: &PrintArgs) -> Result<()> {
    key(args.device.as_deref()).map(drop)
}
