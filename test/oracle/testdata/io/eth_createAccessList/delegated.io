// code by EIP-7702
>> {"jsonrpc":"2.0","id":1,"method":"eth_createAccessList","params":[{"input":"0x0000000000000000000000000000000000000000000000000000000000000005","to":"0xbc05752fb58b08458bb03f39e2c8e6b09ced1cf8"},"0x19"]}
<< {"jsonrpc":"2.0","id":1,"result":{"accessList":[{"address":"0xbc05752fb58b08458bb03f39e2c8e6b09ced1cf8","storageKeys":["0x0000000000000000000000000000000000000000000000000000000000000000"]}],"gasUsed":"0x72ee"}}
