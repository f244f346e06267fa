use super::*;

const MULTI: [Charset; 9] = [
    Charset::Sjis,
    Charset::Cp932,
    Charset::Gbk,
    Charset::Gb2312,
    Charset::Gb18030,
    Charset::Big5,
    Charset::Ujis,
    Charset::Eucjpms,
    Charset::Euckr,
];

#[test]
#[ignore]
fn compare_with_server_map() {
    let map = std::fs::read_to_string("/tmp/ddlsrv/map.tsv").unwrap();
    let mut seen: std::collections::HashMap<&str, std::collections::HashMap<Vec<u8>, char>> =
        Default::default();
    for line in map.lines() {
        let f: Vec<&str> = line.split('\t').collect();
        let Some(cs) = MULTI.iter().find(|c| c.name() == f[0]) else { continue };
        let hex = |s: &str| {
            (0..s.len() / 2)
                .map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap())
                .collect::<Vec<u8>>()
        };
        let (b, v) = (hex(f[1]), String::from_utf8(hex(f[2])).unwrap());
        if cs.char_len(&b) != b.len() {
            if v.chars().count() == 1 {
                println!("LEN {} {} {}", f[0], f[1], v);
            }
            continue;
        }
        let mut ch = v.chars();
        let c = ch.next().unwrap();
        assert!(ch.next().is_none(), "{line}");
        seen.entry(f[0]).or_default().insert(b.clone(), c);
        let ours = cs.decode_one(&b);
        if let Some(o) = ours
            && o != c
        {
            println!(
                "DIFF {} {} server {:?} U+{:04X} ours {:?} U+{:04X}",
                f[0], f[1], c, c as u32, o, o as u32
            );
        }
        if ours.is_none() && c != '?' {
            println!("NONE {} {} server {:?}", f[0], f[1], c);
        }
    }
}
