// a revert has code 3, its reason in the text and what it returned as data
>> {"jsonrpc":"2.0","id":1,"method":"eth_createAccessList","params":[{"to":"0x9140629d4bbdf8d0e98d586afe70e7017fb6950d"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":{"accessList":[],"error":"execution reverted","gasUsed":"0x5248"}}
