//! `fixnet train --data X` without a recipe: settings that fit the data.

mod common;

use common::{Place, images, json, refused};
use std::fs;

#[test]
fn settings_fit_the_data_and_flags_count() {
    let place = Place::new();
    let rows = |row: fn(usize) -> String, head: &str| (0..60).fold(head.to_string(), |all, i| all + &row(i) + "\n");
    fs::write(
        place.path("flowers.csv"),
        rows(|i| format!("{}.{},{},{}", i % 3, i, i % 5, ["x", "y", "z"][i % 3]), "a,b,kind\n"),
    )
    .unwrap();
    fs::write(place.path("prices.csv"), rows(|i| format!("{i}.5,{}.25", 7 * i), "size,price\n")).unwrap();
    images(&place.path("hues"));
    let recipe = |name: &str, data: String, more: &[&str]| {
        let out = place.text(name);
        let args = [&["train", "--data", &data, "--epochs", "1", "--out", &out, "--json"], more].concat();
        let result = json(&args);
        let recipe: toml::Table = fs::read_to_string(place.path(name).join("config.toml")).unwrap().parse().unwrap();
        (result, recipe)
    };
    let (result, flowers) = recipe("flowers", format!("csv:{}", place.text("flowers.csv")), &[]);
    assert_eq!((result["recipe"].as_str(), flowers["task"].as_str()), (Some("flowers"), Some("classification")));
    assert_eq!(flowers["model"]["name"].as_str(), Some("mlp:64-64"));
    let (result, prices) = recipe("prices", format!("csv:{}", place.text("prices.csv")), &["--bits", "8/8/8"]);
    assert!(result["test_r2"].is_number());
    assert_eq!((prices["task"].as_str(), prices["quantization"]["bits"].as_str()), (Some("regression"), Some("8/8/8")));
    let (_, hues) = recipe("run", format!("folder:{}", place.text("hues")), &["--seed", "3"]);
    assert_eq!((hues["name"].as_str(), hues["model"]["name"].as_str()), (Some("hues"), Some("resnet20")));
    assert_eq!((hues["augmentation"]["flip"].as_bool(), hues["run"]["epochs"].as_integer()), (Some(true), Some(1)));

    refused(2, &["train"], &["expected a recipe", "--data KIND:PATH"]);
    refused(1, &["train", "--data", "folder:nowhere"], &["nowhere"]);
    refused(2, &["train", "--data", "digits", "--bits", "9/9/9"], &["9/9/9"]);
}
