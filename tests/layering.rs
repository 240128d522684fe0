//! What the sources must not contain: imports against the flow of data, impurity in the engine, files that grew too long.

use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest layer to the highest. A layer uses those before it; only `engine` stands alone. `ingest::partition`
/// says how keys are placed on partitions, which the configuration names.
const LAYERS: [&str; 15] = [
    "engine",
    "stop",
    "ingest::partition",
    "config",
    "telemetry",
    "ingest",
    "wire",
    "store",
    "shard",
    "commit",
    "query",
    "offline",
    "load",
    "daemon",
    "verify",
];

/// Whatever the command line does, it does through the layers.
const TOP: [&str; 3] = ["cli", "lib", "main"];

/// What would make the fold depend on more than its arguments, or round.
const IMPURE: [&str; 17] = [
    "SystemTime",
    "Instant",
    "Utc",
    "Local",
    "fs",
    "net",
    "env",
    "thread",
    "process",
    "tokio",
    "rdkafka",
    "tracing",
    "rand",
    "async",
    "await",
    "f32",
    "f64",
];

/// By folder.
const FILE_LINES_MAX: [(&str, usize); 3] = [("src", 600), ("benches", 600), ("tests", 650)];

/// Rust files under a folder of the project.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("a file of the project").display().to_string()
}

/// The lines of code, with their numbers: no comments, and nothing from the file's tests on.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "fixture.rs")))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The layer of a module path like `ingest::partition::Partitioner`; the longest name that fits counts.
fn layer(path: &str) -> Option<usize> {
    let fits = |layer: &str| path.strip_prefix(layer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let found = (0..LAYERS.len()).filter(|at| fits(LAYERS[*at]));
    found.max_by_key(|at| LAYERS[*at].len())
}

#[test]
fn layers_import_downwards() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        let name = name(&path);
        let module =
            name.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        if TOP.iter().any(|top| module.split("::").next() == Some(*top)) {
            continue;
        }
        let Some(own) = layer(&module) else {
            wrong.push(format!("{name}: `{module}` has no place in LAYERS"));
            continue;
        };
        let text = fs::read_to_string(&path).expect("a source");
        for (line, code) in code(&text).filter(|_| !is_test(&path)) {
            for import in code.split("crate::").skip(1) {
                let end = import.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(import.len());
                let import = import[..end].trim_end_matches(':');
                if layer(import).is_none_or(|used| used > own) {
                    wrong.push(format!("{name}:{line}: {} uses `{import}`, which is above it", LAYERS[own]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the layers are, from the lowest, {}\n{}", LAYERS.join(", "), wrong.join("\n"));
}

#[test]
fn the_engine_is_pure() {
    let mut wrong = Vec::new();
    for path in sources("src/engine").iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).expect("a source");
        for (line, code) in code(&text) {
            for word in words(code).filter(|word| IMPURE.contains(word)) {
                wrong.push(format!("{}:{line}: `{word}` has no place in the engine", name(path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short_and_finished() {
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("HA", "CK"), concat!("XX", "X")];
    let mut wrong = Vec::new();
    let sources =
        FILE_LINES_MAX.iter().flat_map(|(folder, most)| sources(folder).into_iter().map(move |path| (path, most)));
    for (path, most) in sources {
        let text = fs::read_to_string(&path).expect("a source");
        let lines = text.lines().count();
        if lines > *most {
            wrong
                .push(format!("{}: {lines} lines, at most {most}: find the part that wants its own name", name(&path)));
        }
        for (at, line) in text.lines().enumerate() {
            if words(line).any(|word| unfinished.contains(&word)) {
                wrong.push(format!("{}:{}: unfinished: {}", name(&path), at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
