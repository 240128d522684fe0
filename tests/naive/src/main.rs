use naive::catalog::Catalog;
use naive::{compare, generate, scenario, simulate, stream};
use std::io::{Read, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: naive simulate --catalog F [INPUT]
       naive generate --seed N --steps M --out DIR [--profile any|calm|noisy|commands]
       naive compare --meterd PATH --seeds A..B --steps M [--profile P] [--jobs J] [--no-shrink] [--notices-only]
       naive test FILES...
       naive self --seeds A..B --steps M   (this model alone: that it runs)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("simulate") => run_simulate(&args[1..]),
        Some("generate") => run_generate(&args[1..]),
        Some("compare") => run_compare(&args[1..]),
        Some("test") => run_test(&args[1..]),
        Some("self") => alone(&args[1..]),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(65)
        }
    }
}

fn option(args: &[String], name: &str) -> Option<String> {
    args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).cloned()
}

fn run_simulate(args: &[String]) -> Result<ExitCode, String> {
    let file = option(args, "--catalog").ok_or("--catalog is missing")?;
    let catalog = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
    let mut input = String::new();
    match args.iter().rfind(|a| !a.starts_with("--") && **a != file) {
        Some(path) => input = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?,
        None => {
            std::io::stdin().read_to_string(&mut input).map_err(|e| e.to_string())?;
        }
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in simulate::simulate(Catalog::parse(&catalog), &input)? {
        writeln!(out, "{line}").map_err(|e| e.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn number(args: &[String], name: &str) -> Result<u64, String> {
    let text = option(args, name).ok_or(format!("{name} is missing"))?;
    text.parse().map_err(|_| format!("{name}: expected a number, found {text}"))
}

fn profile(args: &[String]) -> Result<stream::Profile, String> {
    let name = option(args, "--profile");
    stream::Profile::of(name.as_deref()).ok_or("--profile: expected any, calm, noisy or commands".into())
}

fn seeds(args: &[String]) -> Result<std::ops::Range<u64>, String> {
    let text = option(args, "--seeds").ok_or("--seeds is missing")?;
    let (from, to) = text.split_once("..").ok_or("--seeds: expected A..B")?;
    let read = |t: &str| t.parse::<u64>().map_err(|_| format!("--seeds: expected A..B, found {text}"));
    Ok(read(from)?..read(to)?)
}

fn run_generate(args: &[String]) -> Result<ExitCode, String> {
    let (seed, steps) = (number(args, "--seed")?, number(args, "--steps")? as usize);
    let out = std::path::PathBuf::from(option(args, "--out").ok_or("--out is missing")?);
    let world = generate::world(seed, steps);
    let lines = stream::lines(&world, profile(args)?, seed, steps).join("\n") + "\n";
    std::fs::create_dir_all(&out)
        .and_then(|()| std::fs::write(out.join("catalog.toml"), &world.toml))
        .and_then(|()| std::fs::write(out.join("input.jsonl"), lines))
        .map_err(|e| format!("{}: {e}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn run_test(args: &[String]) -> Result<ExitCode, String> {
    let mut failed = 0;
    for file in args {
        let result = std::panic::catch_unwind(|| scenario::test(std::path::Path::new(file)));
        let wrong = match result {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(message)) => vec![message],
            Err(_) => vec!["panicked".into()],
        };
        if !wrong.is_empty() {
            failed += 1;
            println!("{file}\n    {}", wrong.join("\n    "));
        }
    }
    println!("{} passed, {failed} failed", args.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn alone(args: &[String]) -> Result<ExitCode, String> {
    let steps = number(args, "--steps")? as usize;
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for seed in seeds(args)? {
        let world = generate::world(seed, steps);
        let lines = stream::lines(&world, profile(args)?, seed, steps).join("\n");
        for line in simulate::simulate(Catalog::parse(&world.toml), &lines)? {
            if let Some(type_) = line.pointer("/notice/type").and_then(|t| t.as_str()) {
                let reason = line.pointer("/notice/data/reason").and_then(|t| t.as_str()).unwrap_or_default();
                *counts.entry(format!("{type_} {reason}")).or_default() += 1;
            }
            if let Some(reason) = line.pointer("/quarantined/reason").and_then(|t| t.as_str()) {
                *counts.entry(format!("quarantined {reason}")).or_default() += 1;
            }
            for name in ["applied", "duplicate", "failed", "commands", "rejected"] {
                let count = line.pointer(&format!("/summary/{name}")).and_then(|t| t.as_u64());
                *counts.entry(format!("summary {name}")).or_default() += count.unwrap_or(0);
            }
        }
    }
    for (name, count) in counts {
        println!("{count:9} {name}");
    }
    Ok(ExitCode::SUCCESS)
}

fn run_compare(args: &[String]) -> Result<ExitCode, String> {
    let steps = number(args, "--steps")? as usize;
    let jobs = option(args, "--jobs").map_or(Ok(1), |_| number(args, "--jobs"))?.max(1);
    let meterd = option(args, "--meterd").ok_or("--meterd is missing")?;
    let directory = std::env::temp_dir().join(format!("naive-{}", std::process::id()));
    let shrink = !args.iter().any(|a| a == "--no-shrink");
    let notices_only = args.iter().any(|a| a == "--notices-only");
    let compare =
        compare::Compare { meterd: meterd.into(), steps, profile: profile(args)?, directory, shrink, notices_only };
    let seeds = seeds(args)?;
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let failed = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(difference) = compare.seed(seed) {
                        failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        print!("{difference}");
                    }
                }
            });
        }
    });
    let all = seeds.end.saturating_sub(seeds.start);
    let failed = failed.into_inner();
    println!("{} steps in {all} streams", all * steps as u64);
    println!("{} passed, {failed} failed", all - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
