//! Pages, as text: what a browser is given.

use std::fs;

use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    files::images,
    report::page::{Case, MOST_BYTES, Page, Picture, Table},
};

/// What `base64` of RFC 4648 stands for.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => 0,
    };
    let four = |four: &[u8]| {
        let word = four.iter().fold(0u32, |word, &c| word << 6 | u32::from(digit(c)));
        let kept = 3 * four.iter().take_while(|c| **c != b'=').count() / 4;
        word.to_be_bytes()[1..=kept].to_vec()
    };
    text.as_bytes().chunks(4).flat_map(four).collect()
}

fn picture(label: &str, file: impl Into<std::path::PathBuf>) -> Picture {
    Picture { label: label.to_owned(), file: file.into() }
}

#[test]
fn a_page_holds_its_pictures_byte_for_byte_and_asks_for_nothing_else() {
    let folder = TempDir::new().unwrap();
    // Files of several lengths, so that base64 ends in all three ways.
    let files: Vec<_> = (0..3).map(|i| folder.path().join(format!("{i}.png"))).collect();
    for (i, file) in files.iter().enumerate() {
        images::write_png(file, &Tensor::full([1, 8, 8], 40, (Kind::Uint8, Device::Cpu))).unwrap();
        let longer = [fs::read(file).unwrap(), vec![i as u8; i]].concat();
        fs::write(file, longer).unwrap();
    }
    let pictures = files.iter().map(|file| picture("mean", file)).collect();
    let case = Case { name: "cat".into(), pictures, compared: vec![(0, 2)], ..Case::default() };
    let html = Page { cases: vec![case], ..Page::default() }.html().unwrap();
    let embedded = html.split("base64,").skip(1).map(|rest| decoded(rest.split('"').next().unwrap()));
    assert!(embedded.eq(files.iter().map(|file| fs::read(file).unwrap())));
    assert!(html.contains("data-of=p0-0") && html.contains("data-of=p0-2") && html.contains("alt=\"cat mean\""));
    assert!(html.contains("width=8 height=8") && html.contains("class=small"));
    for outside in ["http:", "https:", "src=\"/", "url(", "@import", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn names_cannot_become_markup() {
    let evil = "<script>alert(\"1\")</script>&";
    let text = || evil.to_owned();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.png");
    images::write_png(&file, &Tensor::zeros([3, 4, 4], (Kind::Uint8, Device::Cpu))).unwrap();
    let pictures = vec![picture(evil, &file), picture(evil, &file)];
    let page = Page {
        title: text(),
        about: text(),
        command: text(),
        settings: vec![(text(), text())],
        table: Table { headings: vec![text()], rows: vec![vec![text()]], note: text() },
        cases: vec![Case { name: text(), about: text(), pictures, compared: vec![(0, 1)] }],
    };
    let html = page.html().unwrap();
    assert!(!html.contains("<script>alert") && !html.contains("alert(\"1\")"));
    // Title twice, about, command, a setting, the table, the case, two labels and their alternatives, the slider.
    assert!(html.matches("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;").count() >= 16);
}

#[test]
fn a_page_says_how_many_pictures_it_has_no_room_for() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.png");
    images::write_png(&file, &Tensor::zeros([1, 4, 4], (Kind::Uint8, Device::Cpu))).unwrap();
    let whole = [fs::read(&file).unwrap(), vec![0; MOST_BYTES / 2]].concat();
    fs::write(&file, whole).unwrap();
    let case =
        Case { pictures: vec![picture("a", &file), picture("b", &file)], compared: vec![(0, 1)], ..Case::default() };
    let html = Page { cases: vec![case], ..Page::default() }.html().unwrap();
    assert_eq!(html.matches("base64,").count(), 1);
    assert!(html.contains("1 more pictures would make it more than 24 MB") && !html.contains("type=range"));
    let missing = Case { pictures: vec![picture("a", "nowhere.png")], ..Case::default() };
    let told = Page { cases: vec![missing], ..Page::default() }.html().unwrap_err().to_string();
    assert!(told.starts_with("nowhere.png: cannot be read"), "{told}");
}
