>> {"id":1,"jsonrpc":"2.0","method":"eth_accounts","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":["0x328809bc894f92807417d2dad6b7c998c1afdac6"]}
