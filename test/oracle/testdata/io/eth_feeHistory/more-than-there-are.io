>> {"jsonrpc":"2.0","id":1,"method":"eth_feeHistory","params":["0x3e8","0x2",[]]}
<< {"jsonrpc":"2.0","id":1,"result":{"oldestBlock":"0x0","baseFeePerGas":["0x0","0x0","0x0","0x0"],"gasUsedRatio":[0,0.002937466666666667,0.006604333333333334],"baseFeePerBlobGas":["0x0","0x0","0x0","0x0"],"blobGasUsedRatio":[0,0,0]}}
