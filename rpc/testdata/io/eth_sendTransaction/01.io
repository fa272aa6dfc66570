>> {"id":1,"jsonrpc":"2.0","method":"eth_sendTransaction","params":[{"from":"0x328809bc894f92807417d2dad6b7c998c1afdac6","to":"0x1d96f2f6bef1202e4ce1ff6dad0c2cb002861d3e","value":"0x1"}]}
<< {"jsonrpc":"2.0","id":1,"result":"0x4b2b85b14dc2b356543b1ddff444fccae9f08fc97c2fcc9bb39addf40f937282"}
