>> {"id":1,"jsonrpc":"2.0","method":"eth_sign","params":["0x328809bc894f92807417d2dad6b7c998c1afdac6","0xdeadbeef"]}
<< {"jsonrpc":"2.0","id":1,"result":"0xb5dfe37db795f2e4b1efb2c5445bad8220053e3f572c1a3bf01572904deb51d11a6c55f77925ba134f6566835d8fc5e633ce0a95edb85472bf10ddfb4d230c141b"}
