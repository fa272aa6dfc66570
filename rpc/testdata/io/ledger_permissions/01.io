>> {"id":1,"jsonrpc":"2.0","method":"ledger_permissions","params":["0x328809bc894f92807417d2dad6b7c998c1afdac6"]}
<< {"jsonrpc":"2.0","id":1,"result":{"maySend":true,"mayDeploy":true,"administer":false,"restrictSend":false,"restrictDeploy":false}}
