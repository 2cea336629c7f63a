//! Recipes are read, checked, written and compared.

use super::*;
use fixnet_data::PatchSettings;
use fixnet_fuzz as fuzz;
use fixnet_nn::optim::{
    Adagrad, DecayGroups, NAdam, ParamGroup, RmsProp, Schedule, Scope, Sgd, TransitionConfig, UpdateRule, Warmup,
};
use fixnet_quant::TalrRule;
use proptest::prelude::*;

fn config(text: &str) -> Config {
    Config::from_toml(text, "recipe").unwrap()
}

fn refused(text: &str) -> String {
    Config::from_toml(text, "recipe").unwrap_err().to_string()
}

#[test]
fn the_reference_page_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/recipe.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == reference(), "run: cargo run -- reference docs/reference");
}

/// Every key of a recipe is in the table, and every row of the table is a key.
#[test]
fn the_table_has_every_key() {
    let mut settings = Settings::default();
    for (key, value) in [
        ("data.test", Value::from("digits")),
        ("data.target", "age".into()),
        ("data.image_size", 8.into()),
        ("data.seconds", 0.5.into()),
        ("data.window_ms", 25.0.into()),
        ("data.hop_ms", 10.0.into()),
        ("data.mel_bands", 40.into()),
        ("run.init", "x".into()),
        ("loss.teacher", "x".into()),
        ("run.tensorboard", true.into()),
        ("transition.schedule", "cosine".into()),
        ("transition.warmup", 0.0.into()),
        ("run.keep_best", "loss".into()),
        ("run.patience", 2.into()),
        ("run.extended", toml::from_str::<toml::Table>("x = [[2, 3]]").unwrap()["x"].clone()),
        ("optimizer.own", toml::from_str::<toml::Table>("x = { y = 1.0 }").unwrap()["x"].clone()),
        ("optimizer.groups", toml::from_str::<toml::Table>("x = [{ match = 'a' }]").unwrap()["x"].clone()),
        ("quantization.first_last_gradient_rule", "mse".into()),
        ("optimizer.lr", 0.1.into()),
        ("optimizer.weight_decay", 0.1.into()),
        ("optimizer.clip_norm", 0.1.into()),
        ("optimizer.momentum", 0.1.into()),
        ("optimizer.nesterov", false.into()),
        ("optimizer.betas", vec![0.1, 0.2].into()),
        ("optimizer.eps", 0.1.into()),
        ("optimizer.momentum_decay", 0.1.into()),
        ("optimizer.alpha", 0.1.into()),
        ("optimizer.lr_decay", 0.1.into()),
    ] {
        settings.set(key, value).unwrap();
    }
    let mut table: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    table.sort_unstable();
    assert_eq!(table, settings.values().keys().map(String::as_str).collect::<Vec<_>>());
}

/// And so with the keys of a group.
#[test]
fn the_table_of_groups_has_every_key() {
    let group = GroupSettings {
        lr_factor: 2.0,
        weight_decay: Some(0.0),
        clip_norm: Some(1.0),
        frozen: true,
        ..GroupSettings::of("a")
    };
    let written = Value::try_from(group).unwrap();
    let mut found: Vec<&str> = written.as_table().unwrap().keys().map(String::as_str).collect();
    let mut table: Vec<&str> = GROUP_KEYS.iter().map(|key| key.name).collect();
    found.sort_unstable();
    table.sort_unstable();
    assert_eq!(table, found);
}

#[test]
fn groups_arrive_in_their_order_and_survive_the_round_trip() {
    let text = "[optimizer]\nclip_norm = 2.0\n[[optimizer.groups]]\nmatch = 'a.*'\nfrozen = true\n[[optimizer.groups]]\n\
                match = '*.bias'\nlr_factor = 0.5\nweight_decay = 0\nclip_norm = 1.5\n[run]\naccumulate = 2\n";
    let found = config(text);
    let frozen = ParamGroup { frozen: true, ..ParamGroup::of("a.*") };
    let biases =
        ParamGroup { lr_factor: 0.5, weight_decay: Some(0.0), clip_norm: Some(1.5), ..ParamGroup::of("*.bias") };
    assert_eq!(found.optimizer().groups, [frozen, biases]);
    assert_eq!(config(&found.to_toml().unwrap()), found);
    assert_eq!(found.canonical().unwrap(), found);
    // Another optimizer keeps them.
    let mut settings = found.settings().clone();
    settings.set("optimizer.name", "adam".into()).unwrap();
    assert_eq!(settings.check().unwrap().optimizer().groups, found.optimizer().groups);
    // As one value, which `--set` takes.
    let mut settings = Settings::default();
    settings.set("optimizer.groups", value_of("[{ match = 'a.*', lr_factor = 2 }]")).unwrap();
    assert_eq!(settings.optimizer.groups, [GroupSettings { lr_factor: 2.0, ..GroupSettings::of("a.*") }]);
}

#[test]
fn lengths_of_an_extended_run_are_in_order() {
    let lengths = |text: &str| config(&format!("[run]\n{text}"));
    let found = lengths("epochs = 30\nextended = [[7, 10], [20, 20]]");
    assert_eq!([0, 6, 7, 19, 20, 30].map(|done| found.epochs_at(done)), [10, 10, 20, 20, 30, 30]);
    assert!(found.is_extended_after(7) && !found.is_extended_after(8));
    assert_eq!(lengths("epochs = 10").epochs_at(3), 10);
    // One that stopped early may go on to its own length.
    assert_eq!(lengths("epochs = 10").extended(4, 10).unwrap(), lengths("epochs = 10\nextended = [[4, 10]]"));
    for odd in [
        "epochs = 10\nextended = [[10, 10]]",
        "epochs = 9\nextended = [[4, 10]]",
        "epochs = 20\nextended = [[11, 10]]",
        "epochs = 20\nextended = [[0, 10]]",
        "epochs = 30\nextended = [[10, 10], [10, 20]]",
        "epochs = 30\nextended = [[10, 20], [11, 15]]",
    ] {
        let e = refused(&format!("[run]\n{odd}"));
        assert!(e.contains("run.extended["), "{odd}: {e}");
    }
}

#[test]
fn built_in_recipes_survive_the_round_trip() {
    for (name, _) in BUILT_IN {
        let config = Settings::find(name).unwrap().check().unwrap();
        assert_eq!(Config::from_toml(&config.to_toml().unwrap(), name).unwrap(), config);
    }
}

#[test]
fn flat_recipes_are_refused_with_the_new_places_and_read_where_they_were_recorded() {
    let flat =
        "name = 'x'\ndata = 'digits'\nlr = 0.05\noptimizer = 'sgdt'\ntalr_gain = 85.0\nepochs = 3\nschedule = 'step'\n";
    let e = refused(flat);
    for words in [
        "data as data.source",
        "lr as optimizer.lr",
        "optimizer as optimizer.name",
        "talr_gain as transition.gain",
        "epochs as run.epochs",
        "schedule as schedule.kind",
    ] {
        assert!(e.contains(words), "{words}: {e}");
    }
    let found = Config::recorded(flat, "checkpoint").unwrap();
    let nested = "name = 'x'\n[optimizer]\nlr = 0.05\nname = 'sgdt'\n[transition]\nrule = 'paper'\ngain = 85.0\n[run]\nepochs = 3\n[schedule]\nkind = 'step'\n";
    assert_eq!(found, config(nested));
    let e = Settings::default().set("talr_gain", 1.into()).unwrap_err().to_string();
    assert!(e.contains("`transition.gain`"), "{e}");
}

#[test]
fn every_key_of_the_optimizer_arrives() {
    let text = r#"
        [optimizer]
        name = "nadamt"
        lr = 0.004
        weight_decay = 0.5
        betas = [0.8, 0.99]
        eps = 1e-6
        momentum_decay = 0.01
        decay_groups = "all"
        scale_lr = 1e-4
        latent_lr_factor = 2.0
        [schedule]
        kind = "linear"
        scales = "step"
        warmup = 50
        [transition]
        factor = 0.01
        momentum = 0.9
        schedule = "step"
        warmup = 0.1
        scope = "layer"
        rule = "damped:0.9"
        gain = 20.0
    "#;
    let step = Schedule::Step { milestones: vec![0.5, 0.75], gamma: 0.1 };
    let expected = OptimizerConfig {
        rule: NAdam { betas: [0.8, 0.99], eps: 1e-6, momentum_decay: 0.01, ..NAdam::default() }.into(),
        lr: 0.004,
        weight_decay: 0.5,
        groups: Vec::new(),
        clip_norm: None,
        schedule: Schedule::LINEAR.after(Warmup::Steps(50)),
        total_steps: 0,
        latent_lr_factor: 2.0,
        scale_lr: 1e-4,
        scale_schedule: step.clone(),
        decay_groups: DecayGroups::All,
        transition: Some(TransitionConfig {
            factor: 0.01,
            momentum: 0.9,
            schedule: step.after(Warmup::Fraction(0.1)),
            rule: TalrRule::Damped { momentum: 0.9 },
            gain: 20.0,
            scope: Scope::Layer,
        }),
    };
    assert_eq!(*config(text).optimizer(), expected);
    let rules: [(&str, Box<dyn UpdateRule>); 3] = [
        ("name = 'sgd'\nmomentum = 0.5\nnesterov = true", Sgd { momentum: 0.5, nesterov: true }.into()),
        (
            "name = 'rmsprop'\nalpha = 0.9\neps = 1e-3\nmomentum = 0.2",
            RmsProp { alpha: 0.9, eps: 1e-3, momentum: 0.2 }.into(),
        ),
        ("name = 'adagrad'\neps = 1e-3\nlr_decay = 0.2", Adagrad { eps: 1e-3, lr_decay: 0.2 }.into()),
    ];
    for (text, rule) in rules {
        assert_eq!(config(&format!("[optimizer]\n{text}")).optimizer().rule, rule);
    }
}

#[test]
fn every_key_of_data_arrives() {
    let text = "[augmentation]\ncrop_padding = 1\nflip = true\nquarter_turns = true\nrotation = 15\nshift = 0.1\nbrightness = 0.2\ncontrast = 0.3\n\
                saturation = 0.4\ncutout = 8\nmixup = 0.5\ncutmix = 0.6\nerasing = 0.25\n[data]\nsource = 'folder:x'\ntest = 'folder:y'\nimage_size = 32\nvalidation = 0.1\npatch = 9\npatches = 5\n\
                [run]\nseed = 7";
    let found = config(text);
    let expected = Augment {
        crop_padding: 1,
        flip: true,
        quarter_turns: true,
        rotation: 15.0,
        shift: 0.1,
        brightness: 0.2,
        contrast: 0.3,
        saturation: 0.4,
        cutout: 8,
        mixup: 0.5,
        cutmix: 0.6,
        erasing: 0.25,
    };
    assert_eq!(found.augment(), expected);
    let (source, test) = ("folder:x".parse().unwrap(), Some("folder:y".parse().unwrap()));
    assert_eq!(
        *found.data(),
        DataConfig {
            clips: fixnet_data::ClipSettings::default(),
            source,
            test,
            target: None,
            image_size: Some(32),
            validation: 0.1,
            seed: 7
        }
    );
    assert_eq!(found.patches(), PatchSettings { side: 9, each: 5, flip: true, quarter_turns: true });
}

/// Flips and colours are those of all images; where the task is another one, the table has no effect.
#[test]
fn the_table_detection_arrives_and_is_idle_elsewhere() {
    let table = "[detection]\nscale = 0.3\ncrop = 0.2\nkeep = 0.5\nmosaic = 0.25\n";
    let shared = "[augmentation]\nflip = true\nbrightness = 0.1\ncontrast = 0.2\nsaturation = 0.4\n";
    let of = |head: &str| config(&format!("{head}\n{shared}{table}"));
    let expected = DetectionAugment {
        flip: true,
        scale: 0.3,
        crop: 0.2,
        keep: 0.5,
        brightness: 0.1,
        contrast: 0.2,
        saturation: 0.4,
        mosaic: 0.25,
    };
    let found = of("task = 'detection'");
    assert_eq!(found.detection_augment(), expected);
    assert_eq!(config("").detection_augment(), DetectionAugment::default());
    assert_eq!(config(&found.to_toml().unwrap()), found);
    assert_eq!(found.canonical().unwrap(), found);
    let idle = |config: &Config| config.ineffective_keys().filter(|key| key.starts_with("detection.")).count();
    let elsewhere = of("");
    assert_eq!((idle(&found), idle(&elsewhere)), (0, 4));
    assert_eq!(elsewhere.canonical().unwrap(), config(shared).canonical().unwrap());
    for (key, odd, range) in
        [("scale", "1.0", "below 1"), ("crop", "-0.1", "below 1"), ("keep", "1.5", "0 to 1"), ("mosaic", "2", "0 to 1")]
    {
        // Wherever the task is another one too.
        for task in ["detection", "classification"] {
            let e = refused(&format!("task = '{task}'\n[detection]\n{key} = {odd}"));
            assert!(e.contains(&format!("detection.{key}: expected a number from")) && e.contains(range), "{e}");
        }
    }
    let e = refused("[detection]\nflip = true");
    assert!(e.contains("flip") && e.contains("mosaic"), "{e}");
}

#[test]
fn omitted_settings_are_filled_in_and_survive_the_round_trip() {
    for name in ["sgdt", "adam", "adamw", "nadamt", "adamax", "rmsprop", "adagrad"] {
        let mut short = Settings::default();
        short.set_optimizer(name).unwrap();
        let short = short.check().unwrap();
        assert_eq!(*short.optimizer(), name.parse().unwrap());
        let own = &short.settings().optimizer;
        assert_eq!((own.lr, own.weight_decay), (Some(short.optimizer().lr), Some(short.optimizer().weight_decay)));
        assert_eq!(config(&short.to_toml().unwrap()), short);
    }
}

#[test]
fn another_optimizer_keeps_what_is_not_of_its_rule() {
    let mut settings = Settings::default();
    settings.optimizer.clip_norm = Some(0.5);
    settings.set("optimizer.name", "adam".into()).unwrap();
    assert_eq!((settings.optimizer.name.as_str(), settings.optimizer.clip_norm), ("adam", Some(0.5)));
}

#[test]
fn another_update_rule_brings_its_own_settings_and_a_twin_keeps_them() {
    let mut s = Settings::from_toml("[optimizer]\nlr = 0.05\nmomentum = 0.5", "recipe").unwrap();
    s.set("optimizer.name", "sgdt".into()).unwrap();
    assert_eq!((s.optimizer.lr, s.optimizer.momentum), (Some(0.05), Some(0.5)));
    s.set("optimizer.name", "adamt".into()).unwrap();
    assert_eq!(*s.check().unwrap().optimizer(), "adamt".parse().unwrap());
}

#[test]
fn configurations_of_equal_runs_are_equal() {
    let float = "[quantization]\nbits = '32/32/32'\n";
    let same = |a: &str, b: &str| config(a).canonical().unwrap() == config(b).canonical().unwrap();
    for rest in
        ["gradient_rule = 'min-max'", "scheme = 'trs'", "[optimizer]\nname = 'sgdt'", "[schedule]\nmilestones = [0.1]"]
    {
        assert!(same(&format!("{float}{rest}"), float), "{rest}");
        // Where the first and last layers are quantized, all of it counts.
        let ends = format!("{float}first_last_bits = 8\n");
        assert!(same(&format!("{ends}{rest}"), &ends) == rest.ends_with("[0.1]"), "{rest}");
    }
    let twin = |rest: &str| format!("[optimizer]\nname = 'sgdt'\n{rest}");
    assert!(same("[transition]\nrule = 'damped'", "") && !same(&twin("[transition]\nrule = 'damped'"), &twin("")));
    let paper = |rest: &str| twin(&format!("[transition]\nrule = 'paper'\n{rest}"));
    assert!(same("[transition]\ngain = 2.0", "") && !same(&paper("gain = 2.0"), &paper("")));
    // The automatic rule has no constants to set.
    assert!(same(&twin("[transition]\ngain = 2.0\nfactor = 0.1\nmomentum = 0.5"), &twin("")));
    assert!(same(&twin("[transition]\nrule = 'damped'\ngain = 2.0"), &twin("[transition]\nrule = 'damped'")));
    assert!(!same("[schedule]\nkind = 'step'\nmilestones = [0.1]", "[schedule]\nkind = 'step'"));
}

/// `transition = "paper"` is the whole table with the paper's constants; so is `--set transition=paper`.
#[test]
fn transition_rate_scheduling_by_a_word() {
    let of =
        |text: &str| config(&format!("{text}\n[optimizer]\nname = 'sgdt'")).optimizer().transition.clone().unwrap();
    assert_eq!(of(""), TransitionConfig::default());
    assert_eq!(of("transition = 'auto'"), TransitionConfig::default());
    assert_eq!(of("transition = 'paper'"), TransitionConfig::paper());
    assert_eq!(
        of("[transition]\nrule = 'paper'\ngain = 8.0"),
        TransitionConfig { gain: 8.0, ..TransitionConfig::paper() }
    );
    let mut settings = Settings::from_toml("[transition]\nrule = 'damped'\nfactor = 0.1", "recipe").unwrap();
    settings.set("transition", "paper".into()).unwrap();
    assert_eq!((settings.transition.rule, settings.transition.factor), (TalrRule::Additive, 5e-3));
    let before = settings.clone();
    assert!(settings.set("transition", "papers".into()).is_err());
    assert_eq!(settings, before);
    // `auto` follows the schedule of the learning rate unless it has one; the paper's is a cosine.
    let stepped = of("schedule = { kind = 'linear', warmup = 50 }").schedule;
    assert_eq!(stepped, Schedule::LINEAR.after(Warmup::Steps(50)));
    assert_eq!(of("schedule = { kind = 'linear' }\ntransition = 'paper'").schedule, Schedule::COSINE);
    assert_eq!(
        of("schedule = { kind = 'linear' }\ntransition = { schedule = 'constant' }").schedule,
        Schedule::CONSTANT
    );
    let e = refused("transition = 'papers'");
    assert!(e.contains("papers") && e.contains("auto, paper"), "{e}");
    let e = refused("transition = 3");
    assert!(e.contains("auto or paper"), "{e}");
    // Runs of versions that had one rule go on with it.
    let recorded = Settings::recorded("optimizer = 'sgdt'\nlr = 0.05\ntalr_gain = 8.0", "run").unwrap();
    assert_eq!(recorded.transition.rule, TalrRule::Additive);
}

#[test]
fn bad_settings_are_refused_with_what_is_expected() {
    for (text, words) in [
        ("[optimizer]\nname = 'lion'", ["lion", "adagradt"]),
        ("[optimizer]\nname = 'adam'\nmomentum = 0.9", ["optimizer.momentum", "betas, eps"]),
        ("[optimizer]\nbetas = [0.9, 0.99]", ["optimizer.betas", "momentum, nesterov"]),
        ("[optimizer]\nname = 'adam'\nbetas = [0.9, 1.0]", ["betas", "below 1"]),
        ("[optimizer]\nname = 'adam'\neps = 0.0", ["eps", "above 0"]),
        ("[optimizer]\nmomentum = 0.0\nnesterov = true", ["momentum", "nesterov"]),
        ("[optimizer]\nlr = -1", ["learning rate", "at least 0"]),
        ("[schedule]\nkind = 'exponential'", ["exponential", "linear"]),
        ("[schedule]\nwarmup = 1.5", ["schedule.warmup", "whole steps"]),
        ("[schedule]\nmilestones = [0.5, nan]", ["schedule.milestones", "finite"]),
        ("[transition]\nscope = 'x'", ["scope", "layer"]),
        ("[transition]\nrule = 'x'", ["rule of the transition-adaptive learning rate", "multiplicative"]),
        ("[optimizer]\nname = 'sgdt'\n[transition]\ngain = -1.0", ["gain", "at least 0"]),
        ("[augmentation]\nrotation = 200.0", ["rotation", "0 to 180"]),
        ("[augmentation]\nmixup = 1.5", ["mixup", "0 to 1"]),
        ("[data]\nvalidation = 1.0", ["validation", "below 1"]),
        ("[data]\nimage_size = 32", ["image_size", "digits"]),
        ("[run]\nepoch = 3", ["epoch", "`epochs`"]),
        ("[run]\naccumulate = 0", ["run.accumulate", "at least 1"]),
        ("[run]\npatience = 0", ["run.patience", "at least 1"]),
        ("[[optimizer.groups]]\nfrozen = true", ["match", "missing"]),
        ("[[optimizer.groups]]\nmatch = ''", ["optimizer.groups[0].match", "empty"]),
        ("[[optimizer.groups]]\nmatch = 'a'\nclip_norm = 0.0", ["optimizer.groups[0].clip_norm", "above 0"]),
        ("[[optimizer.groups]]\nmatch = 'a'\nlr_factor = nan", ["optimizer.groups[0].lr_factor", "at least 0"]),
        ("[[optimizer.groups]]\nmatch = 'a'\nfrozen = true\nlr_factor = 2.0", ["lr_factor", "do not move"]),
    ] {
        let e = refused(text);
        assert!(words.iter().all(|w| e.contains(w)), "{text}: {e}");
    }
}

/// What is accepted comes back from its own text, or a run could not be resumed.
fn check(text: &str) -> std::result::Result<(), TestCaseError> {
    fuzz::within(fuzz::MOST, || {
        let Ok(config) = Config::from_toml(text, "recipe") else { return Ok(()) };
        let again = Config::from_toml(&config.to_toml().unwrap(), "again").unwrap();
        prop_assert_eq!(&again, &config);
        prop_assert!(config.canonical().is_ok());
        Ok(())
    })
}

const AWKWARD: [&str; 18] = [
    "0",
    "1",
    "-1",
    "0.0",
    "-0.0",
    "1e-320",
    "1e308",
    "nan",
    "inf",
    "9223372036854775807",
    "''",
    "'4/4/4'",
    "'mlp:99999999999999999999'",
    "'lbt:nan:inf'",
    "'folder:'",
    "[]",
    "[nan, 1e39]",
    "true",
];

proptest! {
    #![proptest_config(fuzz::config())]

    #[test]
    fn damaged_recipes_never_panic(which in 0..BUILT_IN.len(), damage in fuzz::damage()) {
        let text = fuzz::damaged(BUILT_IN[which].1.into(), &damage);
        check(&String::from_utf8_lossy(&text))?;
    }

    #[test]
    fn awkward_values_never_panic(
        lines in prop::collection::vec((0..KEYS.len(), prop::sample::select(&AWKWARD[..])), 1..6),
    ) {
        let lines: std::collections::BTreeMap<_, _> = lines.into_iter().collect();
        let text: String = lines.into_iter().map(|(key, value)| format!("{} = {value}\n", KEYS[key].name)).collect();
        check(&text)?;
    }

    #[test]
    fn random_text_never_panics(
        text in fuzz::random(&[b"", b"[optimizer]\nlr = ", b"[data]\nsource = \"", b"[[", b"quantization.bits = '4/4/4'\n", b"a.b."]),
        // Tables in tables: parsers that call themselves must stop.
        depth in 0usize..4000,
    ) {
        let text = String::from_utf8_lossy(&text);
        check(&text)?;
        check(&format!("{text}{}", "[".repeat(depth)))?;
    }
}

#[test]
fn texts_of_a_recipe_command_no_terminal_and_come_back() {
    for name in ["a\u{9b}31m", "\u{202e}\\u0001\u{1}009b\u{1}\u{1b}", "'\"\\\u{85}\n", "\u{ffff}'''", "plain"] {
        let mut settings = Settings::find("digits").unwrap();
        settings.set("name", name.into()).unwrap();
        let text = settings.to_toml().unwrap();
        assert!(!text.contains(crate::text::commands), "{text:?}");
        assert_eq!(Settings::from_toml(&text, "test").unwrap(), settings, "{text}");
    }
}

/// Types of Rust are not words of a user.
#[test]
fn values_of_another_type_are_described_in_words() {
    let mut settings = Settings::default();
    let e = settings.set("run.batch_size", "many".into()).unwrap_err().to_string();
    assert!(e.contains("expected a whole number of 0 or more") && !e.contains("usize"), "{e}");
    let e = settings.set("optimizer.lr", "fast".into()).unwrap_err().to_string();
    assert!(e.contains("expected a number") && !e.contains("f64") && !e.contains("f32"), "{e}");
    let e = Settings::from_toml("[run]\nepochs = -1\n", "r.toml").unwrap_err().to_string();
    assert!(e.contains("expected a whole number of 0 or more"), "{e}");
}
