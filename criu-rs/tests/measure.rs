use criu_images::memory::PageObject; use criu_rs::pages::Store; use std::time::Instant;
#[test] fn m() { for n in std::env::var("N").unwrap().split(',') { let n: u32 = n.parse().unwrap();
 let d = criu_lab::scratch(&format!("measure-{n}")); 
 let a = Instant::now(); let mut s = Store::open(&d).unwrap(); for p in 1..=n { s.begin(PageObject::Task(p)).unwrap(); s.run(0x1000,1,2).unwrap(); } let b = a.elapsed(); let e=Instant::now(); s.finish().unwrap(); println!("{n}: objects {b:?} finish {:?}", e.elapsed()); let e=Instant::now(); drop(s); println!("drop {:?}", e.elapsed());
 let e=Instant::now(); let mut s = Store::open(criu_lab::scratch(&format!("measure-x{n}"))).unwrap(); for p in 1..=n { s.begin(PageObject::Task(p)).unwrap(); } drop(s); println!("failed {:?}", e.elapsed()); } }
