//! Holds the engine against weights that are damaged, missing, too many, or of other types.

use super::*;

#[test]
fn nothing_comes_of_damaged_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    folder::save(dir.path(), &config, &weights).unwrap();
    let path = dir.path().join(folder::WEIGHTS_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // It opens, since the file is being checked meanwhile, and then gives neither name nor codes.
    let mut engine =
        CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).unwrap();
    engine.prepare(16, 16);
    let said = |error: Option<crate::error::Error>| error.unwrap().to_string();
    let codes = CodeGrid { codes: vec![0; 64], distances: vec![], height: 8, width: 8 };
    let codes = Encoded { count: 1, levels: vec![codes], failed: Vec::new() };
    for text in [
        said(engine.digests().err()),
        said(engine.encode(&images(1, 1, 16, 16)).err()),
        said(engine.decode(&codes).err()),
    ] {
        assert!(text.contains("model.safetensors: not the weights that config.json"), "{text}");
    }
    // Damage that leaves no network is told as damage too.
    let text = std::fs::read(&path).unwrap();
    let at = text.windows(8).position(|w| w == b"conv_out").unwrap();
    let mut bytes = text.clone();
    bytes[at] = b'C';
    // As whoever writes checkpoints does it: the first engine may still be packing from the old file.
    let other = dir.path().join("other");
    std::fs::write(&other, bytes).unwrap();
    std::fs::rename(other, path).unwrap();
    let error = CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).err();
    assert!(said(error).contains("not the weights that config.json"));
}

#[test]
fn weights_that_change_under_a_running_engine_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    folder::save(dir.path(), &config, &weights).unwrap();
    let mut engine =
        CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).unwrap();
    let first = engine.encode(&images(1, 1, 16, 16)).unwrap();
    // Of another size: other weights have to be packed, from a file that was written to.
    let path = dir.path().join(folder::WEIGHTS_FILE);
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"more").unwrap();
    let text = engine.encode(&images(1, 1, 64, 64)).unwrap_err().to_string();
    assert!(text.contains("model.safetensors: it was written to while it was in use"), "{text}");
    // What is packed is still what it was.
    assert_eq!(engine.encode(&images(1, 1, 16, 16)).unwrap(), first);
}

#[test]
fn weights_that_nothing_reads_or_that_are_missing_are_refused() {
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    let refused = |weights: BTreeMap<String, Tensor>| {
        CpuEngine::new(config.clone(), weights, Isa::Portable).err().unwrap().to_string()
    };
    let mut more = weights.clone();
    more.insert("decoder.surprise.weight".into(), weights["quant_conv.bias"].clone());
    let text = refused(more);
    assert!(text.contains("decoder.surprise.weight"), "{text}");
    let mut fewer = weights.clone();
    fewer.remove("decoder.conv_out.bias").unwrap();
    let text = refused(fewer);
    assert!(text.contains("no tensor `decoder.conv_out.bias`"), "{text}");
    let mut other = weights;
    other.insert("decoder.conv_out.bias".into(), other["quant_conv.bias"].clone());
    let text = refused(other);
    assert!(text.contains("`decoder.conv_out.bias` has shape [8]"), "{text}");
}

#[test]
fn weights_of_any_type_are_their_values_as_float32() {
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    let batch = images(3, 1, 24, 16);
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let kept: BTreeMap<String, Tensor> =
            weights.iter().map(|(name, w)| (name.clone(), w.to_dtype(dtype).unwrap())).collect();
        let rounded = kept.iter().map(|(n, w)| (n.clone(), w.to_dtype(DType::F32).unwrap()));
        let [of_kept, of_rounded] = [kept.clone(), rounded.collect()].map(|weights| {
            let dir = tempfile::tempdir().unwrap();
            folder::save(dir.path(), &config, &weights).unwrap();
            let mut engine =
                CpuEngine::open(begin(dir.path(), &DetectOptions::default()).unwrap()).unwrap();
            let codes = engine.encode(&batch).unwrap();
            (engine.digests().unwrap().clone(), engine.decode(&codes).unwrap(), codes)
        });
        assert_eq!(of_kept, of_rounded, "{dtype:?}");
    }
}
